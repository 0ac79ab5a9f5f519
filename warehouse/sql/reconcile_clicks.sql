-- Streams against RAW, and RAW against the click marts. One row per check and measure, as in reconcile_files.sql; none
-- where there never was a stream. Bound: 1. source.
with
chosen as (select cast(? as varchar) as source_system),

-- A replay is a batch of its own, with as many rows dead less as it staged: every sum stays true.
-- Dead letters are entered when a batch is claimed, its events when it is loaded.
batch_totals as (
    select
        count(*) as batches,
        coalesce(sum(batches.records_in), 0) as records_in,
        coalesce(sum(batches.rows_staged), 0) as rows_staged,
        coalesce(sum(iff(batches.state = 'loaded', batches.rows_staged, 0)), 0) as rows_loaded,
        coalesce(sum(batches.rows_dead), 0) as rows_dead
    from ops.stream_batches as batches
    inner join chosen on batches.source_system = chosen.source_system
),

open_dead_letters as (
    select count(*) as dead_letters
    from ops.dead_letters
    inner join chosen on ops.dead_letters.source_system = chosen.source_system
    where ops.dead_letters.state = 'open'
),

click_places as (
    select
        events._topic,
        events._epoch,
        events._partition,
        events._offset,
        count(*) as raw_rows
    from raw.click_events as events
    inner join chosen on events._source_system = chosen.source_system
    group by events._topic, events._epoch, events._partition, events._offset
),

raw_clicks as (
    select
        count(*) as places,
        coalesce(sum(raw_rows), 0) as raw_rows
    from click_places
),

-- A micro-batch that came after dbt began is for the next run.
transformed_clicks as (
    select count(*) as raw_rows
    from raw.click_events as events
    inner join chosen on events._source_system = chosen.source_system
    inner join ops.transformed_files as transformed
        on
            transformed.model_name = 'fact_clicks'
            and transformed.state = 'done'
            and events._source_system = transformed.source_system
            and events._source_file = transformed.content_hash
),

clicks as (
    select
        count(*) as clicks,
        coalesce(sum(duplicate_count), 0) as duplicates
    from marts.fact_clicks
    inner join chosen on marts.fact_clicks.source_system = chosen.source_system
),

rejected_clicks as (
    select count(*) as rejects
    from staging.click_event_rejects
    inner join chosen on staging.click_event_rejects._source_system = chosen.source_system
),

sessions as (
    select coalesce(sum(event_count), 0) as events
    from marts.fact_sessions
    inner join chosen on marts.fact_sessions.source_system = chosen.source_system
)

select
    'stream records = staged + dead letters' as check_name,
    'records' as measure,
    records_in::number(38, 8) as expected_value,
    (rows_staged + rows_dead)::number(38, 8) as actual_value,
    'OPS.STREAM_BATCHES: records_in against rows_staged + rows_dead' as detail
from batch_totals
where batches > 0
union all
select
    'staged events = RAW.CLICK_EVENTS',
    'records',
    batch_totals.rows_loaded::number(38, 8),
    raw_clicks.raw_rows::number(38, 8),
    'OPS.STREAM_BATCHES.rows_staged of loaded batches, replays among them, against RAW.CLICK_EVENTS'
from batch_totals
cross join raw_clicks
where batch_totals.batches > 0
union all
select
    'dead letters = OPS.DEAD_LETTERS',
    'records',
    batch_totals.rows_dead::number(38, 8),
    open_dead_letters.dead_letters::number(38, 8),
    'OPS.STREAM_BATCHES.rows_dead, of which replays took some back, against open dead letters'
from batch_totals
cross join open_dead_letters
where batch_totals.batches > 0
union all
select
    'RAW.CLICK_EVENTS: each record once',
    'records',
    places::number(38, 8),
    raw_rows::number(38, 8),
    'RAW.CLICK_EVENTS: places (topic, epoch, partition, offset) against rows'
from raw_clicks
where raw_rows > 0
union all
select
    'RAW.CLICK_EVENTS = FACT_CLICKS + duplicates + rejects',
    'records',
    transformed_clicks.raw_rows::number(38, 8),
    (clicks.clicks + clicks.duplicates + rejected_clicks.rejects)::number(38, 8),
    'RAW.CLICK_EVENTS, transformed, against MARTS.FACT_CLICKS, its duplicate_count and STAGING.CLICK_EVENT_REJECTS'
from transformed_clicks
cross join clicks
cross join rejected_clicks
where transformed_clicks.raw_rows > 0 or clicks.clicks > 0
union all
select
    'FACT_CLICKS = events of FACT_SESSIONS',
    'events',
    clicks.clicks::number(38, 8),
    sessions.events::number(38, 8),
    'MARTS.FACT_CLICKS against event_count of MARTS.FACT_SESSIONS'
from clicks
cross join sessions
where clicks.clicks > 0
