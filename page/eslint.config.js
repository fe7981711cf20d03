import js from '@eslint/js';
import globals from 'globals';

export default [
  js.configs.recommended,
  {
    languageOptions: {ecmaVersion: 2024, sourceType: 'module'},
    linterOptions: {reportUnusedDisableDirectives: 'error'},
    rules: {
      'eqeqeq': 'error',
      'no-shadow': 'error',
      'no-var': 'error',
      'prefer-const': 'error',
      'object-shorthand': 'error',
      'quotes': ['error', 'single', {avoidEscape: true}],
      'semi': 'error',
      'max-len': ['error', {code: 120}],
    },
  },
  // The page knows a browser, and nothing that could reach a network.
  {
    files: ['src/**'],
    languageOptions: {globals: globals.browser},
    rules: {
      'no-restricted-globals': ['error', 'fetch', 'XMLHttpRequest', 'WebSocket', 'EventSource', 'Image', 'Worker'],
    },
  },
  {files: ['test/**', '*.js'], languageOptions: {globals: globals.node}},
];
