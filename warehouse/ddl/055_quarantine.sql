-- What was refused, by whatever way it came, and what of it was put back since (`customer-analytics quarantine`).

create table if not exists ops.replays (
    entry_id varchar(32) not null comment 'What was put back, as in OPS.QUARANTINE_ENTRIES',
    kind varchar not null comment 'dead_letter, record or file',
    source_system varchar not null comment 'Name of the source mapping',
    staged_key varchar not null comment 'Staged file in the lake that carries it',
    run_id varchar not null comment 'Run that put it back',
    replayed_by varchar not null comment 'Who asked for it: user and machine',
    replayed_at timestamp_ntz not null comment 'UTC',
    fixed_hash varchar comment 'SHA-256 of the bytes put in place of its own; NULL: it was put back as it came',
    fixed_value binary comment 'These bytes, up to 8,000,000; its own stay where they are',
    constraint replays_pk primary key (entry_id)
)
comment = 'Grain: one row per quarantine entry that was put back; nothing is put back twice';

create or replace view ops.quarantine_entries (
    entry_id comment 'Hash of the place: the same record or file has one id',
    kind comment 'record or file of a batch source, or dead_letter of a stream',
    source_system comment 'Name of the source mapping',
    place comment 'Where it was, to the record',
    reason_code comment 'Kind of reason',
    reason comment 'What was found, what was expected',
    detected_at comment 'When it was refused, UTC',
    state comment 'open, or replayed: it was put back'
)
comment = 'Grain: one row per refused record, refused file and dead letter'
as
select
    md5(
        quarantine.source || '|' || quarantine.entity || '|' || quarantine.source_hash || '|'
        || coalesce(quarantine.source_row::varchar, 'file')
    ) as entry_id,
    iff(quarantine.source_row is null, 'file', 'record') as kind,
    quarantine.source as source_system,
    quarantine.source_file
    || coalesce(', record ' || quarantine.source_row::varchar, '')
    || coalesce(', line ' || quarantine.line_number_in_file::varchar, '') as place,
    quarantine.reason_code,
    quarantine.reason,
    quarantine.detected_at,
    iff(replays.entry_id is null, 'open', 'replayed') as state
from ops.quarantine as quarantine
left join ops.replays as replays
    on
        replays.entry_id = md5(
            quarantine.source || '|' || quarantine.entity || '|' || quarantine.source_hash || '|'
            || coalesce(quarantine.source_row::varchar, 'file')
        )
union all
select
    dead_letter_id,
    'dead_letter',
    source_system,
    transport || ' ' || stream || '/' || partition_id || ' at ' || record_position
    || iff(epoch > 1, ', epoch ' || epoch::varchar, ''),
    reason_code,
    reason,
    detected_at,
    state
from ops.dead_letters;
