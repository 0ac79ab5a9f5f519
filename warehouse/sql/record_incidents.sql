-- A cause that is known already is seen once more, not opened twice; one that was resolved is open again.
-- What somebody dismissed stays dismissed.
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
        item.value:run_id::varchar as run_id,
        item.value:score::float as score,
        item.value:money_at_risk::number(18, 4) as money_at_risk,
        item.value:currency::varchar as currency,
        item.value:findings::number(38, 0) as findings,
        item.value:product_id::varchar as product_id,
        item.value:source_file::varchar as source_file,
        item.value:started_at::timestamp_ntz as started_at,
        item.value:ended_at::timestamp_ntz as ended_at,
        item.value:what_to_do::varchar as what_to_do,
        item.value:gate::varchar as gate
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
        run_id = seen.run_id,
        score = seen.score,
        money_at_risk = seen.money_at_risk,
        currency = seen.currency,
        findings = seen.findings,
        product_id = seen.product_id,
        source_file = seen.source_file,
        started_at = coalesce(least(target.started_at, seen.started_at), seen.started_at, target.started_at),
        ended_at = coalesce(greatest(target.ended_at, seen.ended_at), seen.ended_at, target.ended_at),
        what_to_do = seen.what_to_do,
        gate = seen.gate
when not matched then
    insert (
        incident_id, kind, severity, state, source_system, subject, reason, evidence, occurrences, first_seen_at,
        last_seen_at, run_id, score, money_at_risk, currency, findings, product_id, source_file, started_at, ended_at,
        what_to_do, gate
    )
    values (
        seen.incident_id, seen.kind, seen.severity, seen.state, seen.source_system, seen.subject, seen.reason,
        seen.evidence, 1, seen.seen_at, seen.seen_at, seen.run_id, seen.score, seen.money_at_risk, seen.currency,
        seen.findings, seen.product_id, seen.source_file, seen.started_at, seen.ended_at, seen.what_to_do, seen.gate
    )
