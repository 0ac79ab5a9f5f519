-- Bound: 1. JSON array of findings. A finding that is there already stays as it is.
merge into quality.anomalies as target
using (
    select
        found.value:anomaly_id::varchar as anomaly_id,
        found.value:run_id::varchar as run_id,
        found.value:kind::varchar as kind,
        found.value:score::float as score,
        found.value:severity::varchar as severity,
        found.value:entity::varchar as entity,
        found.value:observed::varchar as observed,
        found.value:expected::varchar as expected,
        found.value:direction::varchar as direction,
        found.value:money_at_risk::number(18, 4) as money_at_risk,
        found.value:reason::varchar as reason,
        found.value:detected_at::timestamp_ntz as detected_at,
        found.value:source_system::varchar as source_system,
        found.value:order_line_key::varchar as order_line_key,
        found.value:order_id::varchar as order_id,
        found.value:line_number::number(38, 0) as line_number,
        found.value:product_id::varchar as product_id,
        found.value:customer_id::varchar as customer_id,
        found.value:currency::varchar as currency,
        found.value:ordered_at::timestamp_ntz as ordered_at
    from table(flatten(input => parse_json(?))) as found
) as finding
    on target.anomaly_id = finding.anomaly_id
when not matched then insert (
    anomaly_id, run_id, kind, score, severity, entity, observed, expected, direction, money_at_risk, reason,
    detected_at, source_system, order_line_key, order_id, line_number, product_id, customer_id, currency, ordered_at
) values (
    finding.anomaly_id, finding.run_id, finding.kind, finding.score, finding.severity, finding.entity,
    finding.observed, finding.expected, finding.direction, finding.money_at_risk, finding.reason, finding.detected_at,
    finding.source_system, finding.order_line_key, finding.order_id, finding.line_number, finding.product_id,
    finding.customer_id, finding.currency, finding.ordered_at
)
