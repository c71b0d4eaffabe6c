{{ ranked_proposals("true") }}
