-- Alerts that wait for a channel. Grain: one row. No bound values.
select count(*) as alerts
from quality.alerts
where delivered_at is null
