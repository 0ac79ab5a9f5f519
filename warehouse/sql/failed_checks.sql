-- Bound: 1. run, 2. run.
select
    check_name || ' (' || measure || ')' as name,
    'expected ' || expected_value || ', found ' || actual_value || '; ' || detail as detail
from quality.reconciliations
where
    run_id = ?
    and not is_passed
union all
select
    test_name,
    message
from quality.test_results
where
    run_id = ?
    and status in ('fail', 'error')
order by name
