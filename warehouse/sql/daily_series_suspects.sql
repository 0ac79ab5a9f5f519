-- What findings in order lines do to the days of a source, for incidents that are no notes: what they may be worth, and
-- how far they move the logarithm of prices. Grain: one row per incident, business date, currency and direction.
-- Bound: 1. source, 2. source, 3. first day, 4. last day.
select
    members.incident_id,
    dates.date_day,
    facts.currency,
    anomalies.direction,
    sum(coalesce(anomalies.money_at_risk, 0)) as money,
    sum(coalesce(anomalies.money_at_risk * facts.exchange_rate::number(20, 6), 0))::number(38, 4) as reporting_money,
    sum(
        iff(
            (startswith(anomalies.kind, 'price') or anomalies.kind = 'currency_mismatch')
            and try_cast(anomalies.observed as float) > 0
            and try_cast(anomalies.expected as float) > 0,
            abs(ln(try_cast(anomalies.observed as float) / try_cast(anomalies.expected as float))),
            0
        )
    ) as log_price_shift
from quality.incident_findings as members
inner join quality.incidents as incidents on members.incident_id = incidents.incident_id
inner join quality.anomalies as anomalies on members.anomaly_id = anomalies.anomaly_id
inner join marts.fact_orders as facts on members.order_line_key = facts.order_line_key
inner join marts.dim_date as dates on facts.order_date_key = dates.date_key
where
    incidents.source_system = ?
    and facts.source_system = ?
    and incidents.severity <> 'note'
    and dates.date_day between cast(? as date) and cast(? as date)
group by members.incident_id, dates.date_day, facts.currency, anomalies.direction
order by members.incident_id, dates.date_day, facts.currency, anomalies.direction
