-- Incidents of a source that people don't know of as they are now, gravest first: those never told or opened again, those
-- that have become worse, those seen again so long after they were told that a reminder is due, and those that were
-- resolved. Notes are told to nobody. Acknowledged ones are spoken of again only where they become worse.
-- Bound: 1. source, 2. time before which one must have been told to be told again.
with
known as (
    select
        incidents.incident_id,
        incidents.kind,
        incidents.severity,
        incidents.state,
        incidents.subject,
        incidents.reason,
        incidents.what_to_do,
        incidents.gate,
        incidents.findings,
        incidents.money_at_risk,
        incidents.currency,
        incidents.started_at,
        incidents.ended_at,
        incidents.first_seen_at,
        incidents.last_seen_at,
        incidents.notified_at,
        told.incident_id is not null as is_told,
        coalesce(told.state, '') as told_state,
        decode(incidents.severity, 'critical', 2, 'warning', 1, 0) as gravity,
        decode(coalesce(told.severity, incidents.severity), 'critical', 2, 'warning', 1, 0) as told_gravity
    from quality.incidents as incidents
    left join quality.told_incidents as told on incidents.incident_id = told.incident_id
    where incidents.source_system = ?
),

news as (
    select
        known.*,
        case
            when state = 'resolved' and is_told and told_state <> 'resolved' then 'resolved'
            when state not in ('open', 'acknowledged') or gravity = 0 or coalesce(gate, 'alert') = 'note' then null
            when state = 'open' and notified_at is null then iff(is_told, 'open again', 'new')
            when notified_at is not null and gravity > told_gravity then 'worse'
            when state = 'open' and notified_at < cast(? as timestamp_ntz) and last_seen_at > notified_at
                then 'still open'
        end as news
    from known
)

select
    incident_id,
    kind,
    severity,
    state,
    subject,
    reason,
    what_to_do,
    gate,
    findings,
    money_at_risk,
    currency,
    started_at,
    ended_at,
    first_seen_at,
    news
from news
where news is not null
order by iff(news = 'resolved', 1, 0), gravity desc, money_at_risk desc nulls last, first_seen_at asc, incident_id asc
