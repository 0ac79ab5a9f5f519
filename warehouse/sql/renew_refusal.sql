-- Why a file is still refused. Bound: 1. reason code, 2. reason, 3. source, 4. entity, 5. hash of its content.
update ops.quarantine
set
    reason_code = ?,
    reason = ?
where
    source = ?
    and entity = ?
    and source_hash = ?
    and source_row is null
