-- Bound: 1. JSON array of {incident_id, anomaly_id, order_line_key, run_id}. What is there already stays.
merge into quality.incident_findings as target
using (
    select
        item.value:incident_id::varchar as incident_id,
        item.value:anomaly_id::varchar as anomaly_id,
        item.value:order_line_key::varchar as order_line_key,
        item.value:run_id::varchar as run_id
    from table(flatten(input => parse_json(?))) as item
) as found
    on
        target.incident_id = found.incident_id
        and target.anomaly_id = found.anomaly_id
when not matched then
    insert (incident_id, anomaly_id, order_line_key, run_id)
    values (found.incident_id, found.anomaly_id, found.order_line_key, found.run_id)
