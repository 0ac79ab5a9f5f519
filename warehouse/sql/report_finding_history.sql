-- Prices and quantities of the products that findings are about, other findings left out, so that the usual is seen.
-- Grain: one row per finding and stretch of days; a history longer than the given number of stretches is condensed.
-- Bound: 1. JSON array of {anomaly_id, source_system, product_id, currency, is_returned}, 2. most stretches of a finding.
with
chosen as (
    select
        finding.value:anomaly_id::varchar as anomaly_id,
        finding.value:source_system::varchar as source_system,
        finding.value:product_id::varchar as product_id,
        finding.value:currency::varchar as currency,
        finding.value:is_returned::boolean as is_returned
    from table(flatten(input => parse_json(?))) as finding
),

condensed as (select cast(? as integer) as stretches),

lines as (
    select
        chosen.anomaly_id,
        dates.date_day,
        facts.unit_price,
        facts.quantity
    from chosen
    inner join marts.dim_products as products
        on
            chosen.product_id = products.product_id
            and chosen.source_system = products.source_system
    inner join marts.fact_orders as facts
        on
            products.product_key = facts.product_key
            and chosen.currency = facts.currency
            and chosen.is_returned = facts.is_returned
    inner join marts.dim_date as dates on facts.order_date_key = dates.date_key
    where
        facts.order_line_key not in (
            select anomalies.order_line_key
            from quality.anomalies as anomalies
            where anomalies.order_line_key is not null
        )
),

spans as (
    select
        lines.anomaly_id,
        min(lines.date_day) as first_day,
        greatest(
            ceil((datediff('day', min(lines.date_day), max(lines.date_day)) + 1) / max(condensed.stretches)), 1
        ) as stretch_days
    from lines
    cross join condensed
    group by lines.anomaly_id
)

select
    lines.anomaly_id,
    floor(datediff('day', spans.first_day, lines.date_day) / spans.stretch_days)::integer as stretch,
    min(lines.date_day) as first_day,
    max(lines.date_day) as last_day,
    count(*) as order_lines,
    min(lines.unit_price) as lowest_price,
    median(lines.unit_price)::number(18, 4) as median_price,
    max(lines.unit_price) as highest_price,
    min(lines.quantity) as lowest_quantity,
    median(lines.quantity)::number(18, 4) as median_quantity,
    max(lines.quantity) as highest_quantity
from lines
inner join spans on lines.anomaly_id = spans.anomaly_id
group by lines.anomaly_id, stretch
order by lines.anomaly_id, stretch
