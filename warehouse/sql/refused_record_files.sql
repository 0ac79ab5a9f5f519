-- Files with open refused records, each with its last version in the ledger, and whether any is on its way into RAW.
-- Bound: 1. JSON array of ids, empty: all; 2. source or '', 3. reason code or ''.
with chosen as (
    select
        parse_json(?) as ids,
        cast(? as varchar) as source_system,
        cast(? as varchar) as reason_code
),

wanted as (
    select item.value::varchar as entry_id
    from chosen, table(flatten(input => chosen.ids)) as item
),

refused as (
    select
        md5(
            quarantine.source || '|' || quarantine.entity || '|' || quarantine.source_hash || '|'
            || quarantine.source_row::varchar
        ) as entry_id,
        quarantine.source,
        quarantine.entity,
        quarantine.source_file,
        quarantine.source_hash,
        quarantine.reason_code
    from ops.quarantine as quarantine
    where quarantine.source_row is not null
),

still_open as (
    select
        refused.source,
        refused.entity,
        refused.source_file,
        refused.source_hash
    from refused
    cross join chosen
    left join wanted on refused.entry_id = wanted.entry_id
    left join ops.replays as replays on refused.entry_id = replays.entry_id
    where
        replays.entry_id is null
        and (array_size(chosen.ids) = 0 or wanted.entry_id is not null)
        and (chosen.source_system = '' or refused.source = chosen.source_system)
        and (chosen.reason_code = '' or refused.reason_code = chosen.reason_code)
    group by refused.source, refused.entity, refused.source_file, refused.source_hash
)

select
    still_open.source,
    still_open.entity,
    still_open.source_file,
    still_open.source_hash,
    files.etag,
    files.landing_url,
    files.quarantine_key,
    files.modified_at,
    files.planned_at,
    count_if(files.state in ('planned', 'staged', 'loading')) over (
        partition by still_open.source, still_open.entity, still_open.source_hash
    ) > 0 as is_being_loaded
from still_open
left join ops.files as files
    on
        still_open.source = files.source_system
        and still_open.entity = files.entity
        and still_open.source_hash = files.content_hash
        and not startswith(files.etag, 'replay-')
qualify
    row_number() over (
        partition by still_open.source, still_open.entity, still_open.source_hash
        order by
            iff(files.state in ('loaded', 'refused'), 0, 1) asc,
            iff(files.file_key = still_open.source_file, 0, 1) asc,
            files.planned_at desc nulls last,
            files.etag asc
    ) = 1
order by still_open.source, still_open.source_file
