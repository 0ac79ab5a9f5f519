-- Bound: 1. run.
select
    status,
    count(*) as tests
from quality.test_results
where run_id = ?
group by status
order by status
