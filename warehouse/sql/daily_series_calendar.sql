-- Days that are not like others: public holidays of the shop's country, and what the source's mapping announces.
-- Bound: 1. country, 2. source.
select
    holiday_date as event_date,
    holiday_name as event_name,
    'holiday' as event_kind
from ops.holidays
where country = ?
union all
select
    event_date,
    event_name,
    event_kind
from ops.calendar_events
where source_system = ?
order by event_date, event_kind, event_name
