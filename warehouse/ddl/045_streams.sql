-- Streams: website events as landed, and the ledger of how far each stream has been read. Positions are whole numbers as
-- text, because a Kinesis sequence number has more digits than NUMBER holds: Kafka's offset, or a sequence number. A next
-- position is where reading goes on: the last record's position plus one.

create table if not exists raw.click_events (
    payload variant comment 'The event, as sent',
    _source_system varchar not null comment 'Name of the source mapping',
    _topic varchar not null comment 'Topic or stream',
    _epoch number(38, 0) not null comment 'Life of the topic, counted by the ledger: 2 after it was re-created once',
    _partition varchar not null comment 'Partition or shard',
    _offset varchar not null comment 'Offset or sequence number',
    _published_at timestamp_ntz comment 'When broker or producer stamped the record, UTC',
    _source_file varchar not null comment 'Staged file in the lake, as in OPS.STREAM_BATCHES',
    _batch_id varchar not null comment 'Run that landed the row',
    _ingested_at timestamp_ntz not null comment 'When the micro-batch was staged, UTC'
)
comment = 'Grain: one row per record of a stream (topic, epoch, partition, offset)';

create table if not exists ops.streams (
    source_system varchar not null comment 'Name of the source mapping',
    transport varchar not null comment 'kafka, kinesis, …',
    stream varchar not null comment 'Topic or stream',
    epoch number(38, 0) not null comment 'Life of the stream, from 1',
    incarnation varchar not null comment 'What the transport knows this life by (topic id, creation time); empty: nothing',
    opened_at timestamp_ntz not null comment 'First seen, UTC',
    reason varchar not null comment 'Why this life began, in a sentence',
    constraint streams_pk primary key (source_system, transport, stream, epoch)
)
comment = 'Grain: one row per life of a stream';

create table if not exists ops.stream_positions (
    source_system varchar not null comment 'Name of the source mapping',
    transport varchar not null comment 'kafka, kinesis, …',
    stream varchar not null comment 'Topic or stream',
    epoch number(38, 0) not null comment 'Life of the stream',
    partition_id varchar not null comment 'Partition or shard',
    next_position varchar not null comment 'Everything before it is in RAW, in OPS.DEAD_LETTERS or in an incident',
    end_position varchar comment 'End of the partition when last seen, exclusive',
    state varchar not null comment 'open, or closed: a shard that has been read to its end',
    batch_key varchar comment 'Staged file that moved the position last; "jump …" after a jump',
    caught_up_at timestamp_ntz comment 'When it was last seen to be at its end, everything loaded, UTC',
    updated_at timestamp_ntz not null comment 'UTC',
    constraint stream_positions_pk primary key (source_system, transport, stream, epoch, partition_id)
)
comment = 'Grain: one row per partition and life of a stream; the only truth about how far it has been read';

-- Always records_in = rows_staged + rows_dead. A replay of n dead letters is a batch of its own (folder `replayed`): 0
-- records in, n rows staged, -n dead. So over all batches of a stream records_in are the records read from it,
-- rows_staged the rows of RAW.CLICK_EVENTS, rows_dead the dead letters that are still open.
create table if not exists ops.stream_batches (
    staged_key varchar not null comment 'Staged file in the lake',
    source_system varchar not null comment 'Name of the source mapping',
    transport varchar not null comment 'kafka, kinesis, …',
    stream varchar not null comment 'Topic or stream',
    epoch number(38, 0) not null comment 'Life of the stream',
    partition_id varchar not null comment 'Partition or shard',
    position_before varchar not null comment 'Next position before this batch',
    first_position varchar not null comment 'Of its first record',
    last_position varchar not null comment 'Of its last record',
    next_position varchar not null comment 'Next position after it',
    records_in number(38, 0) not null comment 'Records read; 0 for a replay',
    rows_staged number(38, 0) not null comment 'Staged for RAW.CLICK_EVENTS',
    rows_dead number(38, 0) not null comment 'Dead letters; of a replay those it took back, negative',
    state varchar not null comment 'claimed, then loaded',
    load_number number(38, 0) comment 'Grows with every load; a batch loaded later has a higher one',
    run_id varchar not null comment 'Run that read it',
    staged_at timestamp_ntz not null comment 'UTC',
    loaded_at timestamp_ntz comment 'When its rows could be queried in RAW, UTC',
    constraint stream_batches_pk primary key (staged_key)
)
comment = 'Grain: one row per micro-batch of a partition, and per replay of dead letters of one';

create table if not exists ops.dead_letters (
    dead_letter_id varchar(32) not null comment 'Hash of the record''s place: the same record has one id',
    source_system varchar not null comment 'Name of the source mapping',
    transport varchar not null comment 'kafka, kinesis, …',
    stream varchar not null comment 'Topic or stream',
    epoch number(38, 0) not null comment 'Life of the stream',
    partition_id varchar not null comment 'Partition or shard',
    record_position varchar not null comment 'Offset or sequence number',
    published_at timestamp_ntz comment 'When broker or producer stamped it, UTC',
    record_key binary comment 'Key as it came',
    record_value binary comment 'Value as it came; NULL for a tombstone',
    record_headers varchar comment 'JSON array of [name, value in base64]',
    reason_code varchar not null comment 'Kind of reason',
    reason varchar not null comment 'What was found, what was expected',
    detected_at timestamp_ntz not null comment 'UTC',
    run_id varchar not null comment 'Run that refused it',
    source_file varchar not null comment 'Quarantine file in the lake',
    state varchar not null comment 'open, or replayed: its event is in RAW by now',
    replayed_at timestamp_ntz comment 'UTC',
    constraint dead_letters_pk primary key (dead_letter_id)
)
comment = 'Grain: one row per refused record of a stream';

create table if not exists ops.stream_mappings (
    source_system varchar not null comment 'Name of the source mapping',
    stream varchar not null comment 'Topic or stream',
    field_name varchar not null comment 'Field of the click contract, e.g. event_id',
    field_path varchar not null comment 'Where the payload has it, as GET_PATH takes it',
    time_format varchar comment 'Of time fields: iso, seconds or milliseconds (since 1970)',
    mapping_hash varchar not null comment 'SHA-256 of the mapping file',
    constraint stream_mappings_pk primary key (source_system, stream, field_name)
)
comment = 'Grain: one row per mapped field of a stream; what staging reads of a payload';

create table if not exists quality.incidents (
    incident_id varchar(32) not null comment 'Hash of what it is about: the same cause has one incident',
    kind varchar not null comment 'e.g. retention_loss, stream_recreated, offset_reset, shard_closed, consumer_lag',
    severity varchar not null comment 'note, warning or critical',
    state varchar not null comment 'open, acknowledged, resolved or dismissed',
    source_system varchar not null comment 'Name of the source mapping',
    subject varchar not null comment 'What it is about, e.g. kafka shop-clicks/3',
    reason varchar not null comment 'A sentence a person can act on',
    evidence variant comment 'Numbers behind it, e.g. stream, partition, missing_from, missing_to',
    occurrences number(38, 0) not null comment 'How often it was seen',
    first_seen_at timestamp_ntz not null comment 'UTC',
    last_seen_at timestamp_ntz not null comment 'UTC',
    notified_at timestamp_ntz comment 'When people were told, UTC',
    run_id varchar not null comment 'Run that saw it last',
    score float comment 'Of its strangest finding; grows with strangeness',
    money_at_risk number(18, 4) comment 'What its findings would cost if they are wrong, in currency',
    currency varchar(3) comment 'Currency of money_at_risk',
    findings number(38, 0) comment 'Rows of QUALITY.INCIDENT_FINDINGS under it',
    product_id varchar comment 'The product it is about, if it is about one',
    source_file varchar comment 'The file it is about, if it is about one',
    started_at timestamp_ntz comment 'Of the first order it touches, UTC',
    ended_at timestamp_ntz comment 'Of the last order it touches, UTC',
    what_to_do varchar comment 'A sentence: the next step',
    gate varchar comment 'note, alert or hold: what severity and source decided',
    is_confirmed boolean comment 'Whether somebody said that it is wrong indeed; its lines teach detectors nothing',
    decided_at timestamp_ntz comment 'When somebody acknowledged, confirmed, dismissed or resolved it, UTC',
    decided_by varchar comment 'Who did',
    decision_note varchar comment 'Why',
    constraint incidents_pk primary key (incident_id)
)
comment = 'Grain: one row per incident';

-- Of warehouses that are older than these columns.
alter table quality.incidents add column if not exists score float
comment 'Of its strangest finding; grows with strangeness';
alter table quality.incidents add column if not exists money_at_risk number(18, 4)
comment 'What its findings would cost if they are wrong, in currency';
alter table quality.incidents add column if not exists currency varchar(3)
comment 'Currency of money_at_risk';
alter table quality.incidents add column if not exists findings number(38, 0)
comment 'Rows of QUALITY.INCIDENT_FINDINGS under it';
alter table quality.incidents add column if not exists product_id varchar
comment 'The product it is about, if it is about one';
alter table quality.incidents add column if not exists source_file varchar
comment 'The file it is about, if it is about one';
alter table quality.incidents add column if not exists started_at timestamp_ntz
comment 'Of the first order it touches, UTC';
alter table quality.incidents add column if not exists ended_at timestamp_ntz
comment 'Of the last order it touches, UTC';
alter table quality.incidents add column if not exists what_to_do varchar
comment 'A sentence: the next step';
alter table quality.incidents add column if not exists gate varchar
comment 'note, alert or hold: what severity and source decided';
alter table quality.incidents add column if not exists is_confirmed boolean
comment 'Whether somebody said that it is wrong indeed; its lines teach detectors nothing';
alter table quality.incidents add column if not exists decided_at timestamp_ntz
comment 'When somebody acknowledged, confirmed, dismissed or resolved it, UTC';
alter table quality.incidents add column if not exists decided_by varchar
comment 'Who did';
alter table quality.incidents add column if not exists decision_note varchar
comment 'Why';

create table if not exists quality.incident_findings (
    incident_id varchar(32) not null comment 'Incident, as in QUALITY.INCIDENTS',
    anomaly_id varchar(32) not null comment 'Finding, as in QUALITY.ANOMALIES',
    order_line_key varchar(32) comment 'Order line, as in MARTS.FACT_ORDERS; NULL where a day is meant',
    run_id varchar not null comment 'Run that put it there',
    constraint incident_findings_pk primary key (incident_id, anomaly_id)
)
comment = 'Grain: one row per incident and finding under it';
