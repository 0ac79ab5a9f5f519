-- Open entries of files that were refused as a whole, each with the version of it that landed last.
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
        md5(quarantine.source || '|' || quarantine.entity || '|' || quarantine.source_hash || '|file') as entry_id,
        quarantine.source,
        quarantine.entity,
        quarantine.source_file,
        quarantine.source_hash,
        quarantine.reason_code
    from ops.quarantine as quarantine
    where quarantine.source_row is null
)

select
    refused.entry_id,
    refused.source,
    refused.entity,
    refused.source_file,
    refused.source_hash,
    files.etag,
    files.state
from refused
cross join chosen
left join wanted on refused.entry_id = wanted.entry_id
left join ops.replays as replays on refused.entry_id = replays.entry_id
left join ops.files as files
    on
        refused.source = files.source_system
        and refused.entity = files.entity
        and refused.source_file = files.file_key
        and refused.source_hash = files.content_hash
where
    replays.entry_id is null
    and (array_size(chosen.ids) = 0 or wanted.entry_id is not null)
    and (chosen.source_system = '' or refused.source = chosen.source_system)
    and (chosen.reason_code = '' or refused.reason_code = chosen.reason_code)
qualify row_number() over (partition by refused.entry_id order by files.planned_at desc nulls last, files.etag asc) = 1
order by refused.source, refused.source_file
