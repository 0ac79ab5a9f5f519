-- Which of these contents are in RAW. Bound: 1. JSON array of {content_hash}, 2. source.
select distinct files.content_hash
from ops.files as files
inner join table(flatten(input => parse_json(?))) as wanted
    on files.content_hash = wanted.value:content_hash::varchar
where
    files.source_system = ?
    and files.state in ('loading', 'loaded')
