-- All that was asked for together with these. Bound: 1. time, 2. JSON array of pseudonyms.
update ops.forgotten_customers
set finished_at = cast(? as timestamp_ntz)
where
    finished_at is null
    and request_id in (
        select asked.request_id
        from ops.forgotten_customers as asked
        inner join table(flatten(input => parse_json(?))) as item on asked.pseudonym = item.value::varchar
    )
