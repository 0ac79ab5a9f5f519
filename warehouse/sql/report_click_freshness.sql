-- How long it took from what happened to rows that can be queried in RAW, in milliseconds. One row. Only events that
-- were published while the stream was ours to read (since its present life was first seen), in the hours before the
-- report; of these, the ones that told at once what had happened are live_events, and the percentiles are theirs. What
-- devices held back before they sent it is late_events. Bound: 1. end of the time looked at, 2. hours, 3. source.
with
bounds as (
    select
        cast(? as timestamp_ntz) as until_at,
        cast(? as integer) as hours
),

events as (
    select
        clicks.is_late,
        clicks.published_at,
        datediff('millisecond', clicks.event_at, batches.loaded_at) as event_to_raw,
        datediff('millisecond', clicks.published_at, batches.loaded_at) as published_to_raw
    from marts.fact_clicks as clicks
    inner join bounds
        on
            clicks.published_at <= bounds.until_at
            and clicks.published_at > dateadd('hour', -bounds.hours, bounds.until_at)
    inner join ops.stream_batches as batches on clicks.source_file = batches.staged_key
    inner join ops.streams as streams
        on
            batches.source_system = streams.source_system
            and batches.transport = streams.transport
            and batches.stream = streams.stream
            and batches.epoch = streams.epoch
    where
        clicks.source_system = ?
        and batches.state = 'loaded'
        and batches.records_in > 0
        and clicks.published_at >= streams.opened_at
)

select
    count_if(not is_late) as live_events,
    count_if(is_late) as late_events,
    min(iff(is_late, null, published_at)) as first_published_at,
    max(iff(is_late, null, published_at)) as last_published_at,
    percentile_cont(0.5) within group (order by iff(is_late, null, event_to_raw))::number(18, 0) as event_p50,
    percentile_cont(0.95) within group (order by iff(is_late, null, event_to_raw))::number(18, 0) as event_p95,
    max(iff(is_late, null, event_to_raw)) as event_max,
    percentile_cont(0.5) within group (order by iff(is_late, null, published_to_raw))::number(18, 0) as published_p50,
    percentile_cont(0.95) within group (order by iff(is_late, null, published_to_raw))::number(18, 0) as published_p95,
    max(iff(is_late, null, published_to_raw)) as published_max
from events
