-- Days of which somebody decided that they are wrong, or that nothing is wrong with them. Bound: 1. source.
select
    kind,
    state,
    evidence:first_day::varchar as first_day,
    evidence:last_day::varchar as last_day
from quality.incidents
where
    source_system = ?
    and kind in ('day_missing', 'day_repeated', 'day_doubled', 'day_partial', 'series_high', 'series_low')
    and (is_confirmed or state = 'dismissed')
    and evidence:first_day is not null
order by incident_id
