-- One row per check and measure: what is upstream, what is downstream. Equal to the last digit, or the run fails.
-- Bound: 1. source.
with
chosen as (select cast(? as varchar) as source_system),

ledger as (
    select files.*
    from ops.files as files
    inner join chosen on files.source_system = chosen.source_system
    where files.state in ('loaded', 'empty', 'refused')
),

ledger_totals as (
    select
        coalesce(sum(rows_in), 0) as rows_in,
        coalesce(sum(rows_staged), 0) as rows_staged,
        coalesce(sum(rows_quarantined), 0) as rows_quarantined,
        coalesce(sum(iff(state = 'loaded', rows_staged, 0)), 0) as rows_to_load,
        coalesce(sum(iff(state = 'loaded', rows_loaded, 0)), 0) as rows_loaded,
        coalesce(sum(iff(state = 'loaded' and entity = 'order_lines', rows_staged, 0)), 0) as order_lines_to_load,
        coalesce(sum(iff(state = 'loaded' and entity = 'order_lines', control_quantity, 0)), 0) as quantity,
        coalesce(sum(iff(state = 'loaded' and entity = 'order_lines', control_amount, 0)), 0) as amount
    from ledger
),

quarantined as (
    select count(*) as quarantine_rows
    from ops.quarantine_entries as entries
    inner join chosen on entries.source_system = chosen.source_system
    where entries.kind = 'record' and entries.state = 'open'
),

raw_rows as (
    select count(*) as raw_rows from raw.customers
    inner join chosen on raw.customers._source_system = chosen.source_system
    union all
    select count(*) from raw.products
    inner join chosen on raw.products._source_system = chosen.source_system
    union all
    select count(*) from raw.customer_merges
    inner join chosen on raw.customer_merges._source_system = chosen.source_system
    union all
    select count(*) from raw.fx_rates
    inner join chosen on raw.fx_rates._source_system = chosen.source_system
    union all
    select count(*) from raw.order_lines
    inner join chosen on raw.order_lines._source_system = chosen.source_system
),

raw_order_lines as (
    select
        count(*) as order_lines,
        coalesce(sum(try_to_decimal(trim(quantity), 18, 4)), 0) as quantity,
        coalesce(
            sum(try_to_decimal(trim(quantity), 18, 4)::number(38, 4) * try_to_decimal(trim(unit_price), 18, 4)), 0
        ) as amount,
        coalesce(
            sum(
                round(
                    try_to_decimal(trim(quantity), 18, 4)::number(38, 4) * try_to_decimal(trim(unit_price), 18, 4), 4
                )
            ),
            0
        ) as rounded_amount
    from raw.order_lines
    inner join chosen on raw.order_lines._source_system = chosen.source_system
),

facts as (
    select
        count(*) as fact_lines,
        coalesce(sum(gross_amount), 0) as gross_amount,
        coalesce(sum(discount_amount), 0) as discount_amount,
        coalesce(sum(returned_amount), 0) as returned_amount,
        coalesce(sum(net_amount), 0) as net_amount
    from marts.fact_orders
    inner join chosen on marts.fact_orders.source_system = chosen.source_system
),

rejected as (
    select
        count(*) as rejected_lines,
        coalesce(sum(gross_amount), 0) as gross_amount
    from staging.order_line_rejects
    inner join chosen on staging.order_line_rejects._source_system = chosen.source_system
),

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
    'records in files = staged + quarantined' as check_name,
    'rows' as measure,
    rows_in::number(38, 8) as expected_value,
    (rows_staged + rows_quarantined)::number(38, 8) as actual_value,
    'OPS.FILES: rows_in against rows_staged + rows_quarantined' as detail
from ledger_totals
union all
select
    'quarantined = OPS.QUARANTINE',
    'rows',
    ledger_totals.rows_quarantined::number(38, 8),
    quarantined.quarantine_rows::number(38, 8),
    'OPS.FILES.rows_quarantined, of which replays took some back, against open records of OPS.QUARANTINE_ENTRIES'
from ledger_totals
cross join quarantined
union all
select
    'staged = loaded',
    'rows',
    rows_to_load::number(38, 8),
    rows_loaded::number(38, 8),
    'OPS.FILES: rows_staged against rows_loaded of loaded files'
from ledger_totals
union all
select
    'loaded = RAW',
    'rows',
    ledger_totals.rows_loaded::number(38, 8),
    (select sum(raw_rows.raw_rows) from raw_rows)::number(38, 8),
    'OPS.FILES.rows_loaded against all RAW tables'
from ledger_totals
union all
select
    'staged order lines = RAW.ORDER_LINES',
    'rows',
    ledger_totals.order_lines_to_load::number(38, 8),
    raw_order_lines.order_lines::number(38, 8),
    'OPS.FILES against RAW.ORDER_LINES'
from ledger_totals
cross join raw_order_lines
union all
select
    'staged order lines = RAW.ORDER_LINES',
    'quantity',
    ledger_totals.quantity::number(38, 8),
    raw_order_lines.quantity::number(38, 8),
    'OPS.FILES.control_quantity against RAW.ORDER_LINES.quantity'
from ledger_totals
cross join raw_order_lines
union all
select
    'staged order lines = RAW.ORDER_LINES',
    'quantity x unit price, all currencies',
    ledger_totals.amount::number(38, 8),
    raw_order_lines.amount::number(38, 8),
    'OPS.FILES.control_amount against RAW.ORDER_LINES quantity x unit_price'
from ledger_totals
cross join raw_order_lines
union all
select
    'RAW.ORDER_LINES = FACT_ORDERS + rejects',
    'rows',
    raw_order_lines.order_lines::number(38, 8),
    (facts.fact_lines + rejected.rejected_lines)::number(38, 8),
    'RAW.ORDER_LINES against MARTS.FACT_ORDERS and STAGING.ORDER_LINE_REJECTS'
from raw_order_lines
cross join facts
cross join rejected
union all
select
    'RAW.ORDER_LINES = FACT_ORDERS + rejects',
    'gross amount, all currencies',
    raw_order_lines.rounded_amount::number(38, 8),
    (facts.gross_amount + rejected.gross_amount)::number(38, 8),
    'RAW.ORDER_LINES quantity x unit_price against gross_amount of MARTS.FACT_ORDERS and STAGING.ORDER_LINE_REJECTS'
from raw_order_lines
cross join facts
cross join rejected
union all
select
    'FACT_ORDERS: net = gross - discount - returned',
    'net amount, all currencies',
    (gross_amount - discount_amount - returned_amount)::number(38, 8),
    net_amount::number(38, 8),
    'MARTS.FACT_ORDERS'
from facts
union all
select
    'stream records = staged + dead letters',
    'records',
    records_in::number(38, 8),
    (rows_staged + rows_dead)::number(38, 8),
    'OPS.STREAM_BATCHES: records_in against rows_staged + rows_dead'
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
