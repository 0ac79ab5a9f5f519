-- Grain: one row per currency of the run's findings; amounts of different currencies are never added.
-- Bound: 1. run, 2. most rows.
select
    coalesce(currency, 'unknown') as currency,
    count(*) as findings,
    sum(iff(severity = 'critical', money_at_risk, 0)) as critical_money_at_risk,
    sum(money_at_risk) as money_at_risk
from quality.anomalies
where run_id = ?
group by coalesce(currency, 'unknown')
order by findings desc, coalesce(currency, 'unknown') asc
limit ?
