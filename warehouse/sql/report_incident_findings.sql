-- The gravest order line under each of some incidents. Grain: one row per incident that has any.
-- Bound: 1. JSON array of {incident_id}.
select
    members.incident_id,
    anomalies.anomaly_id,
    anomalies.severity,
    anomalies.kind,
    anomalies.score,
    anomalies.observed,
    anomalies.expected,
    anomalies.direction,
    anomalies.currency,
    anomalies.order_id,
    anomalies.line_number,
    anomalies.product_id,
    anomalies.ordered_at,
    dates.date_day,
    left(products.product_name, 300) as product_name,
    facts.is_returned,
    facts.source_file,
    facts.source_row
from table(flatten(input => parse_json(?))) as item
inner join quality.incident_findings as members on item.value:incident_id::varchar = members.incident_id
inner join quality.anomalies as anomalies on members.anomaly_id = anomalies.anomaly_id
inner join marts.fact_orders as facts on anomalies.order_line_key = facts.order_line_key
left join marts.dim_date as dates on facts.order_date_key = dates.date_key
left join marts.dim_products as products on facts.product_key = products.product_key
qualify
    row_number() over (
        partition by members.incident_id
        order by
            decode(anomalies.severity, 'critical', 0, 'warning', 1, 2) asc,
            anomalies.money_at_risk desc nulls last,
            anomalies.score desc,
            anomalies.anomaly_id asc
    ) = 1
order by members.incident_id
