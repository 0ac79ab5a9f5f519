-- A cause that is known already is seen once more, not opened twice; one that was resolved is open again.
-- Bound: 1. JSON array of incidents.
merge into quality.incidents as target
using (
    select
        item.value:incident_id::varchar as incident_id,
        item.value:kind::varchar as kind,
        item.value:severity::varchar as severity,
        item.value:state::varchar as state,
        item.value:source_system::varchar as source_system,
        item.value:subject::varchar as subject,
        item.value:reason::varchar as reason,
        item.value:evidence as evidence,
        item.value:seen_at::timestamp_ntz as seen_at,
        item.value:run_id::varchar as run_id
    from table(flatten(input => parse_json(?))) as item
) as seen
    on target.incident_id = seen.incident_id
when matched then
    update set
        state = iff(target.state = 'resolved', seen.state, target.state),
        notified_at = iff(target.state = 'resolved' and seen.state = 'open', null, target.notified_at),
        severity = seen.severity,
        reason = seen.reason,
        evidence = seen.evidence,
        occurrences = target.occurrences + 1,
        last_seen_at = seen.seen_at,
        run_id = seen.run_id
when not matched then
    insert (
        incident_id, kind, severity, state, source_system, subject, reason, evidence, occurrences, first_seen_at,
        last_seen_at, run_id
    )
    values (
        seen.incident_id, seen.kind, seen.severity, seen.state, seen.source_system, seen.subject, seen.reason,
        seen.evidence, 1, seen.seen_at, seen.seen_at, seen.run_id
    )
