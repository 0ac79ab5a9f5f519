-- What detection has looked at, and how much it has said. Grain: one row.
-- Bound: 1. to 4. source, 5. moment of the report.
select
    (
        select count(*)
        from marts.fact_orders as facts
        where facts.source_system = ?
    ) as order_lines,
    (
        select count(distinct facts.order_date_key)
        from marts.fact_orders as facts
        where facts.source_system = ?
    ) as business_days,
    (
        select count(*)
        from quality.incidents as incidents
        where
            incidents.source_system = ?
            and incidents.severity in ('critical', 'warning')
            and coalesce(incidents.gate, 'alert') <> 'note'
    ) as alerting_incidents,
    (
        select count(distinct alerts.alert_id)
        from quality.alerts as alerts
        inner join ops.runs as runs on alerts.run_id = runs.run_id
        where
            runs.source_system = ?
            and alerts.created_at > dateadd('day', -30, cast(? as timestamp_ntz))
    ) as alerts_of_30_days
