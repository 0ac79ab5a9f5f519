-- A click differs from the working table only while a run is between the two layers; after it they agree.
with events as (
    select
        click_key,
        event_at,
        record_count - 1 as duplicate_count,
        record_position
    from {{ ref('int_click_events') }}
    where reject_reason is null and copy_number = 1
)

select
    coalesce(clicks.click_key, events.click_key) as click_key,
    clicks.event_at as click_event_at,
    events.event_at
from {{ ref('fact_clicks') }} as clicks
full outer join events on clicks.click_key = events.click_key
where
    clicks.click_key is null
    or events.click_key is null
    or clicks.event_at <> events.event_at
    or clicks.duplicate_count <> events.duplicate_count
    or clicks.record_position <> events.record_position
