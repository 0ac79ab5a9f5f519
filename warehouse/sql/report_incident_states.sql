-- Grain: one row per state and whether it alerts anybody. Bound: 1. source.
select
    state,
    severity in ('critical', 'warning') and coalesce(gate, 'alert') <> 'note' as is_alerting,
    count(*) as incidents
from quality.incidents
where source_system = ?
group by state, is_alerting
order by state, is_alerting
