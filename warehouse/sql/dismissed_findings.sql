-- What somebody said is right: neither the incidents nor the values are news again. Bound: 1. source.
select
    incidents.incident_id,
    anomalies.kind,
    anomalies.product_id,
    anomalies.observed
from quality.incidents as incidents
inner join quality.incident_findings as members on incidents.incident_id = members.incident_id
inner join quality.anomalies as anomalies on members.anomaly_id = anomalies.anomaly_id
where
    incidents.source_system = ?
    and incidents.state = 'dismissed'
