select
    source_system,
    customer_id,
    count_if(is_current) as current_versions
from {{ ref('dim_customers') }}
group by source_system, customer_id
having count_if(is_current) <> 1
