-- Bound: 1. JSON array of {source_system, event_date, event_name, event_kind}.
merge into ops.calendar_events as target
using (
    select
        listed.value:source_system::varchar as source_system,
        listed.value:event_date::date as event_date,
        listed.value:event_name::varchar as event_name,
        listed.value:event_kind::varchar as event_kind
    from table(flatten(input => parse_json(?))) as listed
) as announced
    on
        target.source_system = announced.source_system
        and target.event_date = announced.event_date
        and target.event_name = announced.event_name
when matched then update set event_kind = announced.event_kind
when not matched then
    insert (source_system, event_date, event_name, event_kind)
    values (announced.source_system, announced.event_date, announced.event_name, announced.event_kind)
