-- How detection has done on this source so far, by what people decided. Grain: one row per kind of finding.
-- Bound: 1. source, 2. most rows.
with
judged as (
    select
        anomalies.anomaly_id,
        anomalies.kind,
        anomalies.severity,
        boolor_agg(coalesce(incidents.is_confirmed, false)) as is_confirmed,
        boolor_agg(coalesce(incidents.state = 'dismissed', false)) as is_dismissed
    from quality.anomalies as anomalies
    left join quality.incident_findings as members on anomalies.anomaly_id = members.anomaly_id
    left join quality.incidents as incidents on members.incident_id = incidents.incident_id
    where anomalies.source_system = ?
    group by anomalies.anomaly_id, anomalies.kind, anomalies.severity
)

select
    kind,
    count(*) as findings,
    count_if(severity in ('critical', 'warning')) as alerting_findings,
    count_if(is_confirmed) as confirmed_findings,
    count_if(is_dismissed and not is_confirmed) as dismissed_findings,
    count(*) over () as all_kinds,
    sum(count(*)) over () as all_findings,
    sum(count_if(is_confirmed)) over () as all_confirmed,
    sum(count_if(is_dismissed and not is_confirmed)) over () as all_dismissed
from judged
group by kind
order by alerting_findings desc, findings desc, kind asc
limit ?
