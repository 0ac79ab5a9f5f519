-- Sources with refused files that were staged again and are not in RAW yet. Bound: 1. and 2. source or ''.
select distinct files.source_system
from ops.files as files
inner join ops.replays as replays
    on
        files.source_system = replays.source_system
        and files.staged_key = replays.staged_key
        and replays.kind = 'file'
where
    files.state in ('staged', 'loading')
    and (? = '' or files.source_system = ?)
