-- A file whose content was loaded before under another name or date, or that is twice in this delivery, is loaded once:
-- the first by name stays, the others become duplicates. A file on its way into RAW counts as loaded.
-- Bound: 1. source.
merge into ops.files as target
using (
    select
        source_system,
        entity,
        file_key,
        etag,
        state,
        first_value(file_key) over (
            partition by entity, content_hash
            order by iff(state in ('loaded', 'loading'), 0, 1), file_key, etag
        ) as original_key,
        row_number() over (
            partition by entity, content_hash
            order by iff(state in ('loaded', 'loading'), 0, 1), file_key, etag
        ) as place
    from ops.files
    where
        source_system = ?
        and state in ('staged', 'loading', 'loaded')
) as ranked
    on
        target.source_system = ranked.source_system
        and target.entity = ranked.entity
        and target.file_key = ranked.file_key
        and target.etag = ranked.etag
        and ranked.place > 1
        and ranked.state = 'staged'
when matched then update set
    state = 'duplicate',
    reason = 'same content as ' || ranked.original_key
