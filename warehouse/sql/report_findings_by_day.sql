-- Days on which order lines with findings of any run were placed. Bound: 1. source.
select
    facts.currency,
    dates.date_day,
    count_if(anomalies.severity = 'critical') as critical_findings,
    count_if(anomalies.severity = 'warning') as warning_findings
from quality.anomalies as anomalies
inner join marts.fact_orders as facts on anomalies.order_line_key = facts.order_line_key
inner join marts.dim_date as dates on facts.order_date_key = dates.date_key
where
    anomalies.source_system = ?
    and anomalies.severity in ('critical', 'warning')
group by facts.currency, dates.date_day
order by facts.currency, dates.date_day
