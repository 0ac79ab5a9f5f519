-- Who is to be forgotten; an id that is there already stays as it is. Bound: 1. JSON array of
-- {source_system, kind, identifier_hash, pseudonym, request_id, reason, requested_by, requested_at}.
merge into ops.forgotten_customers as target
using (
    select
        item.value:source_system::varchar as source_system,
        item.value:kind::varchar as kind,
        item.value:identifier_hash::varchar as identifier_hash,
        item.value:pseudonym::varchar as pseudonym,
        item.value:request_id::varchar as request_id,
        item.value:reason::varchar as reason,
        item.value:requested_by::varchar as requested_by,
        item.value:requested_at::timestamp_ntz as requested_at
    from table(flatten(input => parse_json(?))) as item
) as asked
    on
        target.source_system = asked.source_system
        and target.kind = asked.kind
        and target.identifier_hash = asked.identifier_hash
when not matched then insert (
    source_system, kind, identifier_hash, pseudonym, request_id, reason, requested_by, requested_at
) values (
    asked.source_system, asked.kind, asked.identifier_hash, asked.pseudonym, asked.request_id, asked.reason,
    asked.requested_by, asked.requested_at
)
