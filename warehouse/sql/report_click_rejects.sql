-- Records in RAW.CLICK_EVENTS that are no events to the model, by reason; what a reason quotes is cut out of it.
-- Bound: 1. source, 2. most rows.
with
rejects as (
    select
        regexp_replace(reject_reason, '''[^'']*''', '…') as reason,
        reject_reason,
        _topic || '/' || _partition || ', position ' || _offset as place
    from staging.click_event_rejects
    where _source_system = ?
)

select
    left(reason, 300) as reason,
    count(*) as rejected_events,
    left(min(reject_reason), 300) as example_reason,
    left(min(place), 300) as example_place,
    sum(count(*)) over () as all_rejected_events
from rejects
group by left(reason, 300)
order by rejected_events desc, left(reason, 300) asc
limit ?
