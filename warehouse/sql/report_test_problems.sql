-- Tests of the run that did not pass, failures first. Bound: 1. run, 2. most rows.
select
    test_name,
    model_name,
    status,
    failures,
    left(message, 1000) as message
from quality.test_results
where
    run_id = ?
    and status <> 'pass'
order by iff(status in ('fail', 'error'), 0, 1) asc, failures desc nulls last, test_name asc
limit ?
