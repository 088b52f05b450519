/* Under each hit the search shows text that it fetches from the page. A browser fetches nothing for a book that
 * is opened from a disk, so there the hits stand alone, without an error for each. */
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
