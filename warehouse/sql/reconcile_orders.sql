-- RAW against FACT_ORDERS, and its amounts against each other. One row per check and measure, as in reconcile_files.sql.
-- Bound: 1. source.
with
chosen as (select cast(? as varchar) as source_system),

raw_order_lines as (
    select
        count(*) as order_lines,
        sum(
            round(
                try_to_decimal(trim(quantity), 18, 4)::number(38, 4) * try_to_decimal(trim(unit_price), 18, 4), 4
            )
        ) as gross_amount
    from raw.order_lines
    inner join chosen on raw.order_lines._source_system = chosen.source_system
),

facts as (
    select
        count(*) as order_lines,
        sum(facts.gross_amount) as gross_amount,
        sum(facts.discount_amount) as discount_amount,
        sum(facts.returned_amount) as returned_amount,
        sum(facts.net_amount) as net_amount,
        sum(round(facts.gross_amount * facts.exchange_rate, 4)) as converted_gross_amount,
        sum(facts.reporting_gross_amount) as reporting_gross_amount,
        sum(facts.reporting_discount_amount) as reporting_discount_amount,
        sum(facts.reporting_returned_amount) as reporting_returned_amount,
        sum(facts.reporting_net_amount) as reporting_net_amount
    from marts.fact_orders as facts
    inner join chosen on facts.source_system = chosen.source_system
),

rejected as (
    select
        count(*) as order_lines,
        sum(gross_amount) as gross_amount
    from staging.order_line_rejects
    inner join chosen on staging.order_line_rejects._source_system = chosen.source_system
),

-- Orders whose accepted lines all state one discount; where lines disagree, the latest counts, which only dbt knows.
stated_discounts as (
    select
        lines.order_id,
        lines.currency,
        max(try_to_decimal(trim(raw_lines.order_discount_amount), 18, 4)) as discount_amount
    from raw.order_lines as raw_lines
    inner join chosen on raw_lines._source_system = chosen.source_system
    inner join intermediate.int_order_lines as lines
        on
            raw_lines._source_system = lines.source_system
            and raw_lines._source_hash = lines._source_hash
            and raw_lines._source_row = lines._source_row
            and raw_lines._source_file = lines._source_file
    where
        lines.reject_reason is null
        and nullif(trim(raw_lines.order_discount_amount), '') is not null
    group by lines.order_id, lines.currency
    having count(distinct try_to_decimal(trim(raw_lines.order_discount_amount), 18, 4)) = 1
),

discount_shares as (
    select
        facts.order_id,
        facts.currency,
        sum(facts.order_discount_amount) as discount_amount
    from marts.fact_orders as facts
    inner join chosen on facts.source_system = chosen.source_system
    where facts.order_discount_amount <> 0
    group by facts.order_id, facts.currency
),

order_discounts as (
    select
        sum(stated.discount_amount) as stated_amount,
        sum(shares.discount_amount) as shared_amount
    from stated_discounts as stated
    left join discount_shares as shares
        on
            stated.order_id = shares.order_id
            and stated.currency = shares.currency
),

totals as (
    select
        raw_order_lines.order_lines::number(38, 8) as raw_lines,
        coalesce(raw_order_lines.gross_amount, 0)::number(38, 8) as raw_gross,
        facts.order_lines::number(38, 8) as fact_lines,
        coalesce(facts.gross_amount, 0)::number(38, 8) as gross,
        coalesce(facts.discount_amount, 0)::number(38, 8) as discount,
        coalesce(facts.returned_amount, 0)::number(38, 8) as returned,
        coalesce(facts.net_amount, 0)::number(38, 8) as net,
        coalesce(facts.converted_gross_amount, 0)::number(38, 8) as converted_gross,
        coalesce(facts.reporting_gross_amount, 0)::number(38, 8) as reporting_gross,
        coalesce(facts.reporting_discount_amount, 0)::number(38, 8) as reporting_discount,
        coalesce(facts.reporting_returned_amount, 0)::number(38, 8) as reporting_returned,
        coalesce(facts.reporting_net_amount, 0)::number(38, 8) as reporting_net,
        rejected.order_lines::number(38, 8) as rejected_lines,
        coalesce(rejected.gross_amount, 0)::number(38, 8) as rejected_gross,
        order_discounts.stated_amount::number(38, 8) as stated_discount,
        coalesce(order_discounts.shared_amount, 0)::number(38, 8) as shared_discount
    from raw_order_lines
    cross join facts
    cross join rejected
    cross join order_discounts
)

select
    'RAW.ORDER_LINES = FACT_ORDERS + rejects' as check_name,
    'rows' as measure,
    raw_lines as expected_value,
    (fact_lines + rejected_lines)::number(38, 8) as actual_value,
    'RAW.ORDER_LINES against MARTS.FACT_ORDERS and STAGING.ORDER_LINE_REJECTS' as detail
from totals
union all
select
    'RAW.ORDER_LINES = FACT_ORDERS + rejects',
    'gross amount, all currencies',
    raw_gross,
    (gross + rejected_gross)::number(38, 8),
    'RAW.ORDER_LINES quantity x unit_price against gross_amount of MARTS.FACT_ORDERS and STAGING.ORDER_LINE_REJECTS'
from totals
union all
select
    'FACT_ORDERS: net = gross - discount - returned',
    'net amount, all currencies',
    (gross - discount - returned)::number(38, 8),
    net,
    'MARTS.FACT_ORDERS'
from totals
union all
select
    'FACT_ORDERS: net = gross - discount - returned',
    'net amount, in reporting currency',
    (reporting_gross - reporting_discount - reporting_returned)::number(38, 8),
    reporting_net,
    'MARTS.FACT_ORDERS, reporting amounts of lines with an exchange rate'
from totals
union all
select
    'FACT_ORDERS: amounts x exchange rate = reporting amounts',
    'gross amount, in reporting currency',
    converted_gross,
    reporting_gross,
    'MARTS.FACT_ORDERS: gross_amount x exchange_rate against reporting_gross_amount'
from totals
union all
select
    'discounts on orders = their shares',
    'discount, all currencies',
    stated_discount,
    shared_discount,
    'RAW.ORDER_LINES.order_discount_amount, once an order, against order_discount_amount of MARTS.FACT_ORDERS'
from totals
where stated_discount is not null
