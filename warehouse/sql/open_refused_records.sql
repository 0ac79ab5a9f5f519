-- Open refused records of a file after one of them, by their place. Bound: 1. JSON array of ids, empty: all; 2. to 4.
-- source, entity, hash of the file's content, 5. reason code or '', 6. ordinal after which, 7. most rows.
with chosen as (
    select
        parse_json(?) as ids,
        cast(? as varchar) as source_system,
        cast(? as varchar) as entity,
        cast(? as varchar) as source_hash,
        cast(? as varchar) as reason_code,
        cast(? as number(38, 0)) as after_row
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
        quarantine.source_row,
        quarantine.line_number_in_file,
        quarantine.raw_bytes,
        quarantine.reason_code,
        quarantine.reason,
        chosen.after_row,
        array_size(chosen.ids) = 0 as is_everything
    from ops.quarantine as quarantine
    inner join chosen
        on
            quarantine.source = chosen.source_system
            and quarantine.entity = chosen.entity
            and quarantine.source_hash = chosen.source_hash
            and (chosen.reason_code = '' or quarantine.reason_code = chosen.reason_code)
            and quarantine.source_row > chosen.after_row
)

select
    refused.entry_id,
    refused.source_row,
    refused.line_number_in_file,
    refused.raw_bytes,
    refused.reason_code,
    refused.reason
from refused
left join wanted on refused.entry_id = wanted.entry_id
left join ops.replays as replays on refused.entry_id = replays.entry_id
where
    replays.entry_id is null
    and (refused.is_everything or wanted.entry_id is not null)
order by refused.source_row
limit ?
