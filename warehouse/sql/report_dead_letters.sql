-- Refused records of the source's streams, by reason. Bound: 1. source, 2. most rows.
with
letters as (
    select
        *,
        transport || ' ' || stream || '/' || partition_id || ', position ' || record_position as place
    from ops.dead_letters
    where source_system = ?
)

select
    reason_code,
    count_if(state = 'open') as open_letters,
    count_if(state <> 'open') as replayed_letters,
    left(min_by(reason, dead_letter_id), 300) as example_reason,
    left(min_by(place, dead_letter_id), 300) as example_place,
    max(detected_at) as latest_detected_at,
    sum(count_if(state = 'open')) over () as all_open_letters,
    count(*) over () as all_reasons
from letters
group by reason_code
order by open_letters desc, reason_code asc
limit ?
