-- Bound: 1. JSON array of {staged_key}.
select
    _source_file as staged_key,
    count(*) as row_count
from raw.click_events
where
    _source_file in (
        select item.value:staged_key::varchar
        from table(flatten(input => parse_json(?))) as item
    )
group by _source_file
