-- Gravest first, notes last. Bound: 1. run, 2. most rows.
select
    anomalies.anomaly_id,
    anomalies.severity,
    anomalies.kind,
    anomalies.score,
    left(anomalies.reason, 1000) as reason,
    anomalies.observed,
    anomalies.expected,
    anomalies.direction,
    anomalies.money_at_risk,
    anomalies.currency,
    anomalies.order_line_key,
    anomalies.order_id,
    anomalies.line_number,
    anomalies.product_id,
    anomalies.customer_id,
    anomalies.ordered_at,
    dates.date_day,
    left(products.product_name, 300) as product_name,
    facts.product_key,
    facts.is_returned,
    facts.source_file,
    facts.source_row
from quality.anomalies as anomalies
left join marts.fact_orders as facts on anomalies.order_line_key = facts.order_line_key
left join marts.dim_date as dates on facts.order_date_key = dates.date_key
left join marts.dim_products as products on facts.product_key = products.product_key
where anomalies.run_id = ?
order by
    case anomalies.severity when 'critical' then 0 when 'warning' then 1 else 2 end asc,
    anomalies.money_at_risk desc nulls last,
    anomalies.score desc,
    anomalies.anomaly_id asc
limit ?
