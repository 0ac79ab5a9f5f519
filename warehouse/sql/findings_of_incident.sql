-- Bound: 1. incident, 2. most rows.
select
    anomalies.entity,
    anomalies.kind,
    anomalies.severity,
    anomalies.observed,
    anomalies.expected,
    anomalies.money_at_risk,
    anomalies.currency,
    anomalies.ordered_at
from quality.incident_findings as members
inner join quality.anomalies as anomalies on members.anomaly_id = anomalies.anomaly_id
where members.incident_id = ?
order by anomalies.score desc, anomalies.anomaly_id asc
limit ?
