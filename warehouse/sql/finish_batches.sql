-- Bound: 1. time, 2. run, 3. JSON array of {staged_key}.
update ops.stream_batches
set
    state = 'loaded',
    load_number = (select coalesce(max(known.load_number), 0) + 1 from ops.stream_batches as known),
    loaded_at = cast(? as timestamp_ntz),
    run_id = ?
where
    state = 'claimed'
    and staged_key in (
        select item.value:staged_key::varchar
        from table(flatten(input => parse_json(?))) as item
    )
