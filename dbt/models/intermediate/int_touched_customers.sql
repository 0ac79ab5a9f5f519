{{ touched_members('stg_customers', 'customer_id', 'customers') }}
