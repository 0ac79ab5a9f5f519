-- A file that got more rows is looked at by the detectors again. Bound: 1. source, 2. hash of its content.
delete from quality.scored_files
where
    source_system = ?
    and content_hash = ?
