-- A file that got more rows is taken by the next increment again. Bound: 1. source, 2. hash of its content.
update ops.transformed_files
set
    state = 'claimed',
    done_at = null
where
    source_system = ?
    and content_hash = ?
