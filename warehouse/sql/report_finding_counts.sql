-- Grain: one row per kind of finding of the run. Bound: 1. run, 2. most rows.
select
    kind,
    count_if(severity = 'critical') as critical_findings,
    count_if(severity = 'warning') as warning_findings,
    count_if(severity not in ('critical', 'warning')) as notes,
    count(*) as findings
from quality.anomalies
where run_id = ?
group by kind
order by critical_findings desc, warning_findings desc, notes desc, kind asc
limit ?
