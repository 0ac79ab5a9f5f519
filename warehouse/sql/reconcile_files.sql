-- Files against RAW. One row per check and measure: what is upstream, what is downstream. Equal to the last digit, or the
-- run fails. Bound: 1. source.
with
chosen as (select cast(? as varchar) as source_system),

loaded as (
    select
        files.*,
        files.state = 'loaded' as is_loaded,
        files.state = 'loaded' and files.entity = 'order_lines' as has_order_lines
    from ops.files as files
    inner join chosen on files.source_system = chosen.source_system
    where files.state in ('loaded', 'empty', 'refused')
),

ledger as (
    select
        sum(rows_in) as rows_in,
        sum(rows_staged) as rows_staged,
        sum(rows_quarantined) as rows_quarantined,
        sum(iff(is_loaded, rows_staged, 0)) as rows_to_load,
        sum(iff(is_loaded, rows_loaded, 0)) as rows_loaded,
        sum(iff(has_order_lines, rows_staged, 0)) as order_lines_to_load,
        sum(iff(has_order_lines, control_quantity, 0)) as quantity,
        sum(iff(has_order_lines, control_amount, 0)) as amount
    from loaded
),

quarantined as (
    select count(*) as quarantine_rows
    from ops.quarantine_entries as entries
    inner join chosen on entries.source_system = chosen.source_system
    where entries.kind = 'record' and entries.state = 'open'
),

raw_sources as (
    select _source_system as source_system from raw.customers
    union all
    select _source_system from raw.customer_merges
    union all
    select _source_system from raw.products
    union all
    select _source_system from raw.fx_rates
    union all
    select _source_system from raw.order_lines
),

raw_rows as (
    select count(*) as raw_rows
    from raw_sources
    inner join chosen on raw_sources.source_system = chosen.source_system
),

raw_order_lines as (
    select
        count(*) as order_lines,
        sum(try_to_decimal(trim(quantity), 18, 4)) as quantity,
        sum(
            try_to_decimal(trim(quantity), 18, 4)::number(38, 4) * try_to_decimal(trim(unit_price), 18, 4)
        ) as amount
    from raw.order_lines
    inner join chosen on raw.order_lines._source_system = chosen.source_system
),

totals as (
    select
        coalesce(ledger.rows_in, 0)::number(38, 8) as rows_in,
        coalesce(ledger.rows_staged, 0)::number(38, 8) as rows_staged,
        coalesce(ledger.rows_quarantined, 0)::number(38, 8) as rows_quarantined,
        coalesce(ledger.rows_to_load, 0)::number(38, 8) as rows_to_load,
        coalesce(ledger.rows_loaded, 0)::number(38, 8) as rows_loaded,
        coalesce(ledger.order_lines_to_load, 0)::number(38, 8) as order_lines_to_load,
        coalesce(ledger.quantity, 0)::number(38, 8) as quantity_to_load,
        coalesce(ledger.amount, 0)::number(38, 8) as amount_to_load,
        quarantined.quarantine_rows::number(38, 8) as quarantine_rows,
        raw_rows.raw_rows::number(38, 8) as raw_rows,
        raw_order_lines.order_lines::number(38, 8) as order_lines,
        coalesce(raw_order_lines.quantity, 0)::number(38, 8) as quantity,
        coalesce(raw_order_lines.amount, 0)::number(38, 8) as amount
    from ledger
    cross join quarantined
    cross join raw_rows
    cross join raw_order_lines
)

select
    'records in files = staged + quarantined' as check_name,
    'rows' as measure,
    rows_in as expected_value,
    (rows_staged + rows_quarantined)::number(38, 8) as actual_value,
    'OPS.FILES: rows_in against rows_staged + rows_quarantined' as detail
from totals
union all
select
    'quarantined = OPS.QUARANTINE',
    'rows',
    rows_quarantined,
    quarantine_rows,
    'OPS.FILES.rows_quarantined, of which replays took some back, against open records of OPS.QUARANTINE_ENTRIES'
from totals
union all
select
    'staged = loaded',
    'rows',
    rows_to_load,
    rows_loaded,
    'OPS.FILES: rows_staged against rows_loaded of loaded files'
from totals
union all
select
    'loaded = RAW',
    'rows',
    rows_loaded,
    raw_rows,
    'OPS.FILES.rows_loaded against all RAW tables'
from totals
union all
select
    'staged order lines = RAW.ORDER_LINES',
    'rows',
    order_lines_to_load,
    order_lines,
    'OPS.FILES against RAW.ORDER_LINES'
from totals
union all
select
    'staged order lines = RAW.ORDER_LINES',
    'quantity',
    quantity_to_load,
    quantity,
    'OPS.FILES.control_quantity against RAW.ORDER_LINES.quantity'
from totals
union all
select
    'staged order lines = RAW.ORDER_LINES',
    'quantity x unit price, all currencies',
    amount_to_load,
    amount,
    'OPS.FILES.control_amount against RAW.ORDER_LINES quantity x unit_price'
from totals
