-- The fence: an open dead letter is marked once, so of two replays one finds fewer rows than it asked for and gives up.
-- Bound: 1. time, 2. JSON array of ids.
update ops.dead_letters
set
    state = 'replayed',
    replayed_at = cast(? as timestamp_ntz)
where
    state = 'open'
    and dead_letter_id in (
        select item.value::varchar
        from table(flatten(input => parse_json(?))) as item
    )
