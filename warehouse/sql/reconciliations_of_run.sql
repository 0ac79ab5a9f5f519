-- Bound: 1. run.
select
    check_name,
    measure,
    expected_value,
    actual_value,
    is_passed,
    detail
from quality.reconciliations
where run_id = ?
order by check_name, measure
