-- Order lines that an incident is about by now, also of earlier runs. Money is summed anew where all of it is in one
-- currency. Bound: 1. run.
update quality.incidents
set
    findings = held.findings,
    money_at_risk = iff(held.currencies = 1, held.money_at_risk, incidents.money_at_risk),
    currency = iff(held.currencies = 1, held.currency, incidents.currency)
from (
    select
        members.incident_id,
        count(*) as findings,
        count(distinct anomalies.currency) as currencies,
        sum(anomalies.money_at_risk) as money_at_risk,
        min(anomalies.currency) as currency
    from quality.incident_findings as members
    inner join quality.anomalies as anomalies on members.anomaly_id = anomalies.anomaly_id
    where members.order_line_key is not null
    group by members.incident_id
) as held
where
    incidents.incident_id = held.incident_id
    and incidents.run_id = ?
