-- What a run did with files. Bound: 1. run.
select
    entity,
    state,
    count(*) as files,
    coalesce(sum(rows_in), 0) as rows_in,
    coalesce(sum(rows_staged), 0) as rows_staged,
    coalesce(sum(rows_quarantined), 0) as rows_quarantined
from ops.files
where run_id = ?
group by entity, state
order by entity, state
